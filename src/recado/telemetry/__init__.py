"""What recado says about itself: metric names are declared once, here, and logs have one form."""
