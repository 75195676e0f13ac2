// One step of AdamW, equation (adamw): one thread owns one weight.

// base^step for an integer step, by squaring.  1 - 0.999^1 keeps its digits only in double.
__device__ inline double pow_int(double base, long long step) {
    double result = 1.0;
    for (; step > 0; step /= 2, base *= base)
        if (step % 2) result *= base;
    return result;
}

// w, g, m and v (N), step from 1  ->  out_w, out_m, out_v (N)
extern "C" __global__ void adamw_step(float *out_w, float *out_m, float *out_v, const float *w, const float *g,
                                      const float *m, const float *v, double step, double lr, double beta1,
                                      double beta2, double eps, double decay, long long N) {
    __shared__ float step_size, v_correction;
    if (threadIdx.x == 0) {  // one thread computes what the whole block needs
        step_size = (float) (lr / (1 - pow_int(beta1, (long long) step)));
        v_correction = (float) (1 / (1 - pow_int(beta2, (long long) step)));
    }
    __syncthreads();
    size_t i = (size_t) blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= N) return;
    float m_new = (float) beta1 * m[i] + (float) (1 - beta1) * g[i];
    float v_new = (float) beta2 * v[i] + (float) (1 - beta2) * (g[i] * g[i]);
    out_m[i] = m_new;
    out_v[i] = v_new;
    out_w[i] = (float) (1 - lr * decay) * w[i] - step_size * m_new / (sqrtf(v_new * v_correction) + (float) eps);
}
