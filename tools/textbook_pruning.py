"""Textbook one-shot pruning in PyTorch, written from the papers' descriptions: what `tools/peer_pruning.py` compares pare with.

usage: textbook_pruning.py MODELDIR CALIB HELDOUT METHOD [--sparsity .5] [--nm 2:4] [--nseq 128] [--len 512] [--chunks 32] [--save DIR]
METHOD: dense | magnitude | wanda | sparsegpt | depth   (depth drops --drop of the blocks whose input and output are most alike by
cosine on the calibration text)

magnitude : keep the largest |w| in each matrix.
wanda     : score |w_ij| * ||x_j||_2, compared inside each output row; the inputs of a block are the outputs of the pruned blocks before it.
sparsegpt : columns left to right in blocks of 128, mask by w^2 / diag(Hinv)^2, the error of each removed weight spread over later columns
            with the upper Cholesky factor of H^-1.
N:M masks : the same scores, the M-N smallest of every M neighbouring inputs removed.

Windows of both texts are cut without overlap and spread evenly, as pare does. Prints one line of JSON.
"""
import argparse, json, math, resource, time, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

p = argparse.ArgumentParser()
for x in ("model", "calib", "heldout", "method"): p.add_argument(x)
p.add_argument("--sparsity", type=float, default=.5); p.add_argument("--nm", default="")
p.add_argument("--nseq", type=int, default=128); p.add_argument("--len", type=int, default=512)
p.add_argument("--chunks", type=int, default=32); p.add_argument("--drop", type=float, default=.25)
p.add_argument("--save", default="")
a = p.parse_args()
torch.set_num_threads(2); torch.set_grad_enabled(False)
N, M = (map(int, a.nm.split(":")) if a.nm else (0, 0))

tok = AutoTokenizer.from_pretrained(a.model)
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32).eval()
layers = model.model.layers

def windows(file, count):
    """`count` windows of the text, without overlap, spread evenly over all of it."""
    ids = tok(open(file).read(), add_special_tokens=False, return_tensors="pt").input_ids[0]
    whole = len(ids) // a.len
    count = min(count, whole)
    return torch.stack([ids[i * whole // count * a.len:][:a.len] for i in range(count)])

def perplexity(model, win):
    total = n = 0
    for i in range(len(win)):
        w = win[i:i + 1]
        lp = torch.log_softmax(model(w, use_cache=False).logits[:, :-1].float(), -1)
        nll = -lp.gather(2, w[:, 1:, None])[..., 0]
        total += nll.sum().item(); n += nll.numel()
    return math.exp(total / n)

def linears(block):
    return {n: m for n, m in block.named_modules() if isinstance(m, torch.nn.Linear)}

def mask_from(score):
    """True where a weight goes. Per row for unstructured, per group of M for N:M."""
    if M:
        g = score.view(score.shape[0], -1, M)
        idx = g.topk(M - N, dim=2, largest=False).indices
        return torch.zeros_like(g, dtype=torch.bool).scatter_(2, idx, True).view_as(score)
    k = int(score.shape[1] * a.sparsity)
    idx = score.topk(k, dim=1, largest=False).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter_(1, idx, True)

def magnitude(W):
    s = W.abs()
    if M: return W.masked_fill(mask_from(s), 0)
    return W.masked_fill(s <= s.flatten().kthvalue(int(s.numel() * a.sparsity)).values, 0)

def sparsegpt(W, H, block=128, damp=.01):
    W = W.clone(); H = H.clone()
    dead = H.diagonal() == 0
    H[dead, dead] = 1; W[:, dead] = 0
    H.diagonal().add_(damp * H.diagonal().mean())
    U = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True)
    C = W.shape[1]
    Wt = W.T.contiguous()                          # one row per input column: the inner updates stay contiguous
    for b in range(0, C, block):
        e = min(b + block, C)
        Wb, Ub = Wt[b:e].clone(), U[b:e, b:e].contiguous()
        Err = torch.zeros_like(Wb); d = Ub.diagonal()
        if not M:
            s = Wb ** 2 / d[:, None] ** 2
            kill = s <= s.flatten().kthvalue(int(s.numel() * a.sparsity)).values
        else:
            kill = torch.zeros_like(Wb, dtype=torch.bool)
        for j in range(e - b):
            if M and j % M == 0:
                s = Wb[j:j + M] ** 2 / d[j:j + M, None] ** 2
                kill[j:j + M].scatter_(0, s.topk(M - N, dim=0, largest=False).indices, True)
            q = Wb[j].masked_fill(kill[j], 0)
            Err[j] = (Wb[j] - q) / d[j]
            if j + 1 < e - b: Wb[j + 1:].addr_(Ub[j, j + 1:], Err[j], alpha=-1)
            Wb[j] = q
        Wt[b:e] = Wb
        if e < C: Wt[e:] -= U[b:e, e:].T @ Err
    W = Wt.T.contiguous()
    return W

calib = windows(a.calib, a.nseq) if a.method not in ("dense", "magnitude") else None

def block_inputs():
    """Embeddings of the calibration set plus the keyword arguments every block receives."""
    kw = {}
    class Stop(Exception): pass
    def grab(mod, args, kwargs):
        kw.update({k: v for k, v in kwargs.items() if k not in ("hidden_states", "past_key_values", "past_key_value")}); raise Stop
    h = layers[0].register_forward_pre_hook(grab, with_kwargs=True)
    try: model(calib[:1], use_cache=False)
    except Stop: pass
    h.remove()
    return model.model.embed_tokens(calib), kw

def run_block(block, X, kw):
    out = torch.empty_like(X)
    for i in range(len(X)):
        o = block(X[i:i + 1], **kw)
        out[i:i + 1] = o[0] if isinstance(o, tuple) else o
    return out

t0 = time.time(); dropped = []
if a.method == "magnitude":
    for b in layers:
        for m in linears(b).values(): m.weight.data = magnitude(m.weight.data)
elif a.method in ("wanda", "sparsegpt"):
    X, kw = block_inputs()
    for li, b in enumerate(layers):
        stat, hooks = {}, []
        def make(n):
            def f(mod, args):
                x = args[0].reshape(-1, args[0].shape[-1])
                v = x.square().sum(0) if a.method == "wanda" else x.T @ x
                stat[n] = v if n not in stat else stat[n].add_(v)
            return f
        L = linears(b)
        hooks = [m.register_forward_pre_hook(make(n)) for n, m in L.items()]
        run_block(b, X, kw)
        for h in hooks: h.remove()
        for n, m in L.items():
            W = m.weight.data
            if a.method == "wanda": m.weight.data = W.masked_fill(mask_from(W.abs() * stat[n].sqrt()), 0)
            else: m.weight.data = sparsegpt(W, stat[n] * (2 / (a.nseq * a.len)))
        X = run_block(b, X, kw)
elif a.method == "depth":
    X, kw = block_inputs(); sim = []
    for b in layers:
        Y = run_block(b, X, kw)
        sim.append(torch.cosine_similarity(X, Y, dim=-1).mean().item()); X = Y
    k = round(a.drop * len(layers))
    dropped = sorted(sorted(range(len(layers)), key=lambda i: -sim[i])[:k])
    keep = [l for i, l in enumerate(layers) if i not in dropped]
    model.model.layers = torch.nn.ModuleList(keep)
    for i, l in enumerate(keep): l.self_attn.layer_idx = i
    model.config.num_hidden_layers = len(keep)
prune_s = time.time() - t0
z = n = 0
for b in model.model.layers:
    for m in linears(b).values(): z += (m.weight == 0).sum().item(); n += m.weight.numel()
figure = perplexity(model, windows(a.heldout, a.chunks)) if a.chunks else None
print(json.dumps(dict(method=a.method, nm=a.nm, sparsity=round(z / max(n, 1), 4), dropped=dropped, nseq=a.nseq, seq_len=a.len,
      seconds=round(prune_s, 1), perplexity=figure, peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)), flush=True)
if a.save:
    model.save_pretrained(a.save); tok.save_pretrained(a.save)
