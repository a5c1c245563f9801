"""From a question for similar tickets to its answer: who may ask, what is refused, and that webhooks come first."""
