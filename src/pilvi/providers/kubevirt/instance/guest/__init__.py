"""What a guest tells of itself, as the status of its instance shows it."""
