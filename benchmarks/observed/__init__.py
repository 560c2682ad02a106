"""The observations of the paper on the embedded model: trainings that are looked at as they go."""
