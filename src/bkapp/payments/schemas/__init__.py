"""What the payments API accepts and returns."""
