"""Figures, reports and pictures of correction, matching and classification."""
