"""Compiled nets to files for one target each; a backend returns contents and writes nothing."""
