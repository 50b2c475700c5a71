"""Worlds in a real browser: pages as text and pictures, actions by element or by coordinate."""
