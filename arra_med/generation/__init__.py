"""Generation: prompts to pictures, batched and guided."""
