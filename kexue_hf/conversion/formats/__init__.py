"""Original and saved checkpoint formats, read and written tensor by tensor."""
