"""Tests of starting workers."""
