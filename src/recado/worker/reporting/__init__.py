"""What a running worker tells of itself: health, metrics, what stands still and why."""
