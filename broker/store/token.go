package store

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/privyseal/privyseal/providers"
)

// tokenSeconds is the shortest life that the API server gives a token. It is
// used within the second.
const tokenSeconds = int64(600)

// TokenRequests makes service account tokens by the TokenRequest API
// (https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/).
type TokenRequests struct {
	// Client creates the requests.
	Client client.SubResourceClientConstructor
}

// Token implements TokenSource. Errors wrap providers.ErrDenied where the
// service account is not there or may not be used, for then asking again helps
// nobody; else providers.ErrUnavailable.
func (t TokenRequests) Token(ctx context.Context, serviceAccount types.NamespacedName, audiences []string) (providers.Value, error) {
	seconds := tokenSeconds
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: audiences, ExpirationSeconds: &seconds},
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Namespace: serviceAccount.Namespace, Name: serviceAccount.Name,
	}}
	err := t.Client.SubResource("token").Create(ctx, account, request)
	switch {
	case apierrors.IsNotFound(err):
		return providers.Value{}, fmt.Errorf("%w: service account %s is not there; create it, and bind the store's role to it", providers.ErrDenied, serviceAccount)
	case apierrors.IsForbidden(err):
		return providers.Value{}, fmt.Errorf("%w: Privyseal may not make tokens of service account %s; add its name to the chart's serviceAccountNames", providers.ErrDenied, serviceAccount)
	case err != nil:
		return providers.Value{}, fmt.Errorf("%w: making a token of service account %s: %w", providers.ErrUnavailable, serviceAccount, err)
	}
	return providers.NewValue([]byte(request.Status.Token)), nil
}
