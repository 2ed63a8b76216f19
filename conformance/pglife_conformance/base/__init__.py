"""What every part of the suite uses: failures, deadlines, needs, texts."""
