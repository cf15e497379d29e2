"""Tests of masters and workers."""
