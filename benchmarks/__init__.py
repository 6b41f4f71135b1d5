"""What recado is measured by; see README.md here. Never part of the tests."""
