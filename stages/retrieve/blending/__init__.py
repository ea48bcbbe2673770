"""What `blend` is made of."""
