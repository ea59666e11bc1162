"""The project that a new owner deploys with one click: one small, well-known image and nothing else."""

SAMPLE = """\
# A small web page on port 8080 of the host.
services:
  web:
    image: nginx:alpine
    ports:
      - "8080:80"
    healthcheck:
      test: ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"]
      interval: 2s
      timeout: 2s
      retries: 15
    restart: unless-stopped
"""
