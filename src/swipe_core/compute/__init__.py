"""What computes: devices, memory, and the processes of a cluster."""
