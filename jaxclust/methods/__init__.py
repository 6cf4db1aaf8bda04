"""The methods: one file a paper, each a Config and a `build` that returns a Method."""
