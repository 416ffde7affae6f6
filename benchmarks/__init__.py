"""What the program costs on the machine at hand, each figure beside what it is to be held against."""
