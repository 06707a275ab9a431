"""What linear attention would do to a model: measured on a text, printed, drawn. See report.py."""
