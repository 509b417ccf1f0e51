"""What is computed: one module a stage, named after the term of its paper."""
