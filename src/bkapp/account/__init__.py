"""The pages of who has signed in: plain HTML that works on any phone, over the same operations as the API."""
