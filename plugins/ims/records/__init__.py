"""What is remembered: recipes, images, public keys."""
