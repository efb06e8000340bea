"""What the platform reacts to: new files, edited SQL, anomalies, failures."""
