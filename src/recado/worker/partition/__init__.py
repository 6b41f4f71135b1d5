"""One stay of one partition with this member: how far it is, and what its records were before."""
