"""The report of a run: one HTML file that shows the whole way from the task to the trained model, without a network."""
