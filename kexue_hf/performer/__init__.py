"""Linear attention for any encoder of transformers: swap, calibrate, transfer, report."""
