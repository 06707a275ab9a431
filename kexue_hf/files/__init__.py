"""Reading and writing files: nothing is opened unchecked, nothing is left half-written."""
