"""The live layer: labels that are decoded when they are looked at."""
