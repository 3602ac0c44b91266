"""Keys and passwords that an instance's accessCredentials put into its guest: by its seed, or by its agent while it runs."""
