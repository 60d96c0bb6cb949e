"""The models of the family, each one step of a sequence."""
