"""What this machine is and how it fares, found by looking. No messages are sent from here."""
