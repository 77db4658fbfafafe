"""Texts and files from outside, read and written so that none of them does harm. Imports ``errors`` alone."""
