"""The loop rehearsed: a stream of questions, simulated users and planted events, and how well the loop handles them."""
