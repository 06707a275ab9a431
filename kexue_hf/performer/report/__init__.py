"""Reports on the effect of linear attention on a model: measured on a text, printed, drawn. See report.py."""
