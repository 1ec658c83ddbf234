package adoption

import "context"

// Settle does what Run does every minute.
func (s *Service) Settle(ctx context.Context) { s.settle(ctx) }
