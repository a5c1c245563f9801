"""What a user would pick instead: small programs, written as their documentation shows, with our HMAC check and schema."""
