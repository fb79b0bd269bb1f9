"""The front door: python bench.py --help"""

from harness.cli import main

if __name__ == "__main__":
    main(prog_name="bench.py")
