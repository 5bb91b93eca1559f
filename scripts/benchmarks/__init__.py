"""What ``scripts/benchmark.py`` measures: this project beside the alternatives, its reports and pages at their own sizes."""
