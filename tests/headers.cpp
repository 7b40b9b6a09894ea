// Carries the precompiled header that every suite reuses.
