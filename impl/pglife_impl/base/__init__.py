"""What every part of the server uses: kinds of process, records, words, repairs."""
