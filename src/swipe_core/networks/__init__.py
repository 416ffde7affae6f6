"""Networks: what all of them offer, SwIPE, and those it is compared with, each written from its own paper."""
