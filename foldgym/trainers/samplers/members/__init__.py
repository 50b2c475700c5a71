"""Which members of accepted groups are trained on, before the advantages (trims) or after."""
