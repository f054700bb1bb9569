"""The images: what they are made of, and how they are made and tried here."""
