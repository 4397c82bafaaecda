"""What the demo model learns from: stories, questions about llmserve, small talk, tools, JSON."""
