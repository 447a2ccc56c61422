"""State that outlives the process: a small key-value port and what stands behind it."""
