"""What handlers import."""
