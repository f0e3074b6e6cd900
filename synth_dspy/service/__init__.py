"""The service: a task's champion answers over HTTP, and people's feedback on its answers is kept."""
