"""Networks side by side: studies that train, judge and tabulate them, each at one command."""
