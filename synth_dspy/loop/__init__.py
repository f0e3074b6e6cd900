"""The continuous loop: versions, feedback, signals of change, the gate, and the cycle that connects them."""
