"""The compared methods on the embedded model: trained, drawn, scored, and set side by side."""
