"""Programs that a user would write instead, as their libraries' documentation shows, with our HMAC check and schema."""
