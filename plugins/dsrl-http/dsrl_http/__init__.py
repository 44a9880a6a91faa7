"""What plugins share that call a provider over the network through its official SDK."""
